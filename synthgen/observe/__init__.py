"""What people are told: progress, status, report, page, metrics, doctor."""
