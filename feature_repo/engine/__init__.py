"""What a definition means: definitions -> kernels -> read-time evaluation. No I/O, no Bytewax."""

from feature_repo.engine.kernel_cache import use_kernel_cache

use_kernel_cache()  # before any kernel is defined
