"""Speed, stress and out-of-distribution benchmarks; run each as `python -m benchmarks.<name>`."""
