"""recjax: pure JAX/Flax functions for user-interest and preference modelling.

Importing the package loads nothing heavy: every part is imported where it is used, so that
`python -m recjax.main --help` answers at once.
"""

__version__ = "0.1.0"
