"""Ablations: the variants of a plan, trained under one recipe, and what made the difference, with error bars."""

from .plan import SMALL_SIDE, Base, Change, Plan
