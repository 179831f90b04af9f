"""Variables of the environment that decide about the last digits of what a network computes."""

import os
from collections.abc import Mapping

# Variables of the environment, each with what it changes. Those that only log, trace or limit memory are left out.
SWITCHES: Mapping[str, str] = {
    "TF_ENABLE_ONEDNN_OPTS": "whether TensorFlow computes with oneDNN's kernels or with Eigen's",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "how oneDNN's buffers are aligned, and so which kernels take them",
    "ONEDNN_MAX_CPU_ISA": "the instructions that oneDNN may use: others add up in another order",
    "DNNL_MAX_CPU_ISA": "its older name",
    "ONEDNN_CPU_ISA_HINTS": "the width of vectors that oneDNN prefers",
    "DNNL_CPU_ISA_HINTS": "its older name",
    "ONEDNN_DEFAULT_FPMATH_MODE": "whether oneDNN may compute float32 with bfloat16 or TF32",
    "DNNL_DEFAULT_FPMATH_MODE": "its older name",
    "TF_SET_ONEDNN_FPMATH_MODE": "the same, asked of TensorFlow",
    "NVIDIA_TF32_OVERRIDE": "0 keeps NVIDIA's libraries from computing float32 with 10 bits of fraction",
    "TF_CUDNN_DETERMINISTIC": "which of cuDNN's algorithms may be taken",
    "TF_DETERMINISTIC_OPS": "whether operations that add up in any order are replaced",
    "TF_CUDNN_USE_AUTOTUNE": "whether cuDNN's algorithm is the fastest in a trial",
    "TF_CUDNN_USE_FRONTEND": "which of cuDNN's interfaces chooses the algorithm",
    "TF_USE_CUBLASLT": "which of NVIDIA's libraries multiplies matrices",
    "TF_ENABLE_WINOGRAD_NONFUSED": "whether convolutions go by Winograd's algorithm",
    "CUBLAS_WORKSPACE_CONFIG": "the memory by which cuBLAS chooses its algorithm",
    "TF_XLA_FLAGS": "whether TensorFlow compiles by itself, and how",
    "XLA_FLAGS": "what XLA may fuse, reorder and approximate",
    "LIBTPU_INIT_ARGS": "the same, of XLA's part for TPUs",
    "JAX_DEFAULT_MATMUL_PRECISION": "how many bits of float32 products take",
    "JAX_ENABLE_X64": "whether float64 is float64",
    "JAX_NUMPY_DTYPE_PROMOTION": "what type mixed operations have",
    "JAX_DEFAULT_PRNG_IMPL": "how random numbers are drawn",
    "JAX_THREEFRY_PARTITIONABLE": "in which order random numbers are drawn",
    "JAX_CPU_ENABLE_FAST_MATH": "whether XLA may reorder sums",
    "TF_NUM_INTRAOP_THREADS": "among how many threads a sum is divided",
    "OMP_NUM_THREADS": "the same, of oneDNN and OpenBLAS",
    "OPENBLAS_NUM_THREADS": "the same, of OpenBLAS, by which NumPy computes the linear probe",
    "OPENBLAS_CORETYPE": "the kernels of OpenBLAS",
    "NPY_DISABLE_CPU_FEATURES": "the instructions that NumPy may use",
}


def here() -> dict[str, str | None]:
    """What they are; None for one that is not set."""
    return {name: os.environ.get(name) for name in SWITCHES}


def take_over(switches: Mapping[str, str | None]) -> None:
    """Sets them as they are where a run was started; for good, as libraries read some of them late.

    On a node of a cluster, before Keras is imported: Ray sets some of its own, such as one thread for NumPy.
    """
    for name, value in switches.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
