"""The Envoy engine: Envoy listens and terminates HTTP/2 and TLS; the service runs inside it (pyvoy).

identity serve → process.py ── starts ──→ Envoy ── loads ──→ inside.py → bootstrap.Service → ASGI engine
                    └────────── a pipe: settings, "ready", "stop" ─────────┘
"""
