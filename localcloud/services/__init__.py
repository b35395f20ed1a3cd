"""Other services than EC2 where moto's do less than the image needs: SSM's Run Command, SES."""
