"""What a protocol asks of counts: recovery, grades, dose-limiting toxicity."""
