"""Diffusion models in one small algebra: a path, a 2x2 system, a denoiser, a step.

`import ddpm_lite as dl` gives the mathematics, one flat file a concept. Folders are machinery and are
imported by name: `ddpm_lite.nets`, `ddpm_lite.book`.
"""

from .coding import *
from .couplings import *
from .editing import *
from .energy import *
from .guidance import *
from .inverse import *
from .likelihood import *
from .losses import *
from .mcmc import *
from .metrics import *
from .ode import *
from .paths import *
from .predict import *
from .reference import *
from .rng import *
from .samplers import *
from .scorematch import *
from .toys import *
from .train import *
from .variational import *
from .viz import *
