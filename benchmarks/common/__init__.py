"""What the scripts of benchmarks share: measuring, tables, figures."""
