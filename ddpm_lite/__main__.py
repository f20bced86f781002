"""`python -m ddpm_lite` is the command line `ddpm-lite`."""

from .cli import main

main()
