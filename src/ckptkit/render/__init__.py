"""How plans, reports and signatures look; the only place that knows colours."""
