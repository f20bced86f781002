"""What a chapter's cells call: `card`, `same`, `show`, `proof`, `quiz`, `checkpoint`. It imports no algebra."""

from .card import card
from .checkpoint import checkpoint
from .proof import ProofError, proof, standard_errors, stated
from .quiz import quiz
from .same import NotTheSame, same
from .show import show

__all__ = [
    "NotTheSame",
    "ProofError",
    "card",
    "checkpoint",
    "proof",
    "quiz",
    "same",
    "show",
    "standard_errors",
    "stated",
]
