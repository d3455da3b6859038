"""Text: encoders with published weights."""
