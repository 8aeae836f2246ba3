"""sglang-operator: serves SGLang models on Kubernetes through KubeRay.

Layers: api < render < lifecycle < cluster < cli, app.
"""
