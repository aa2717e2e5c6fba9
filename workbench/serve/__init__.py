"""From a model version to an endpoint that answers."""
