"""What EC2's operations do here that moto's do not: instances that boot, images and volumes with data in them."""
