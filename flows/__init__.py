"""Prefect flows around vggflow's stages: the only package that imports Prefect."""
