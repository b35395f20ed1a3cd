"""CloudWatch alarms, evaluated from the metrics that arrived: moto keeps alarms and never looks at them."""
