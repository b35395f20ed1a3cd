"""What the instance asks of AWS: the metadata service, Parameter Store, S3, CloudWatch."""
