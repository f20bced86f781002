"""Live figures: one widget for JupyterLab, Colab and the published page, with no server.   Book: each chapter."""

from .anneal import *
from .bend import *
from .between import *
from .bowl import *
from .carry import *
from .chain import *
from .coarse import *
from .crossing import *
from .family import *
from .fewsteps import *
from .figure import *
from .guidance import *
from .kernel import *
from .klfit import *
from .noisy import *
from .observed import *
from .particles import *
from .schedule import *
