"""Live figures: one widget for JupyterLab, Colab and the published page, with no server.   Book: each chapter."""

from .bowl import *
from .chain import *
from .figure import *
from .kernel import *
from .schedule import *
