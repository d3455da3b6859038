"""Pictures, and words for them: encoders with published weights."""
