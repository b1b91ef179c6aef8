"""What only a CPU needs: convolutions and poolings written for XLA's CPU backend, and the choice between them.

correlate.py   the three maps of a convolution, each the gradient of the others; what `layers.conv` calls
geometry.py    the static shape of a convolution
choose.py      which strategy a shape gets, from the measured table costs.csv
patches.py     matrix products of patches
winograd.py    2×2 to 4×4 kernels with 2.25 to 4 times fewer multiplications
spectral.py    products of Fourier coefficients, for large kernels on small maps
strided.py     strides as blocks of pixels: input gradients without zeros in between
max_pool.py    max-pooling whose gradient goes to the place of the maximum
chunks.py      a few images at a time, so that intermediate results stay in the cache
"""
