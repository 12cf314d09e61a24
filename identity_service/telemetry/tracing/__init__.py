"""Traces for OpenTelemetry: wrappers of the parts of a service, if `traces_endpoint` is set.

`bootstrap` passes its parts through a `Tracing`. While traces are off, that is `parts.Tracing`, which returns
each part as it is. Otherwise it is `otel.OpenTelemetry`, whose module needs the extra [otel]: then
each part is wrapped, and records a span.
"""
