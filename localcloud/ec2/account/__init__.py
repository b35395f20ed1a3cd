"""What an account has beside instances, images and volumes: security groups, key pairs, tags, numbers of its own."""
