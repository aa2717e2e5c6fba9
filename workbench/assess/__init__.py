"""From a model version to evidence and a verdict."""
