packer {
  required_version = ">= 1.11.0"

  required_plugins {
    amazon = {
      source = "github.com/hashicorp/amazon"
      # An exact pin: the same template must mean the same calls on every machine. tools/ builds exactly this one.
      version = "= 1.8.2"
    }
  }
}
