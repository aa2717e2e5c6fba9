"""Units of metrics, and values as a person reads them."""

from __future__ import annotations

from ..drawing import duration, number, size

UNITS = (("_seconds_total", "s a second"), ("_bytes_total", "B a second"), ("_per_second", "a second"), ("_total", "a second"),
         ("_count", "a second"), ("_sum", "a second"),
         ("_bytes", "B"), ("_seconds", "s"), ("_ratio", "of 1"), ("_celsius", "°C"), ("_watts", "W"))
OF_RUNS = {"loss": "nats a token", "bits_per_byte": "bits a byte", "tokens_per_second": "tokens a second", "learning_rate": "",
           "gradient_norm": ""}


def unit(metric: str) -> str:
    """The unit of what a metric shows, in words; ``of 1`` for a share, empty where it has none."""
    return OF_RUNS.get(metric) or next((u for end, u in UNITS if metric.endswith(end)), "")


def quantity(value: float, metric: str) -> str:
    """A value of a metric with its unit.

    Examples
    --------
    >>> quantity(2e9, "workbench_machine_disk_free_bytes"), quantity(0.05, "workbench_endpoint_error_ratio"), quantity(3, "heat")
    ('2 GB', '5 %', '3')
    """
    of = unit(metric)
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if of == "of 1":
        return f"{100 * value:.3g} %"
    if of == "B" and value >= 0:
        return size(value)
    if of == "s" and value >= 0:
        return duration(value) if value >= 60 else f"{value:g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    if of.endswith("a second") or (of and value < 0):
        return f"{value:.4g} {of}"
    return f"{number(float(value)) if value >= 1e4 else f'{value:g}'}" + (f" {of}" if of else "")
