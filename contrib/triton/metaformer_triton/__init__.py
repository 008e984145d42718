"""Triton kernels for the lean blocks of MetaFormer."""

from .registration import register as register
