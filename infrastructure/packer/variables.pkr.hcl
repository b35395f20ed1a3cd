# Everything that may differ between two builds. The pipeline hands each over in one -var-file, written from
# zmanim_ami/pipeline/settings.py; the defaults here serve a bare `packer validate .` and a build by hand.

# ---- What is built ----

variable "version" {
  description = "Version of the image, with its v: the image is called zmanim-{version}. A test image is test-…"
  type        = string
  default     = "test-local"

  validation {
    condition     = length(var.version) <= 64 && can(regex("^(v(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-rc\\.[1-9][0-9]*)?|test-[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$", var.version))
    error_message = "The version is vMAJOR.MINOR.PATCH, that with -rc.N, or test-… for a test image; at most 64 characters."
  }
}

variable "bundle_dir" {
  description = "Directory of the API's release bundle: zmanim-api (linux/arm64), migrations/, manifest.json."
  type        = string
  default     = "../../build/bundle/test-local"

  validation {
    condition     = length(var.bundle_dir) > 0
    error_message = "The bundle_dir names the directory that build-binary made."
  }
}

variable "versions_file" {
  description = "JSON file with every pinned version, address and checksum (schema: versions.schema.json)."
  type        = string
  default     = "versions.json"

  validation {
    condition     = can(regex("\\.json$", var.versions_file))
    error_message = "The versions_file is a .json file of versions.schema.json's form."
  }
}

variable "postgresql_repo" {
  description = "Whose PostgreSQL: amazonlinux (core, with PostGIS of SPAL) or pgdg (PGDG's packages). Never a mixture."
  type        = string
  default     = "amazonlinux"

  validation {
    condition     = contains(["amazonlinux", "pgdg"], var.postgresql_repo)
    error_message = "The postgresql_repo is amazonlinux or pgdg."
  }
}

variable "run" {
  description = "Id of the run that builds: the tag zmanim:run of all that it makes, by which a sweep finds it."
  type        = string
  default     = "by-hand"

  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,40}$", var.run))
    error_message = "The run is 1 to 40 letters, digits and hyphens."
  }
}

variable "package_cache" {
  description = "Directory of RPMs that earlier builds compiled, used where their digest still fits; empty for none."
  type        = string
  default     = ""
}

variable "release_keys" {
  description = "Directory of public keys (ENVIRONMENT.pem) of the release channels to follow; empty: none is followed."
  type        = string
  default     = ""
}

# ---- Where, and on what ----

variable "region" {
  description = "AWS region to build in."
  type        = string
  default     = "eu-west-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region is written like eu-central-1."
  }
}

variable "instance_type" {
  description = "Type of the builder: ARM64 (Graviton). A burstable one gets the CPU credits that it takes."
  type        = string
  default     = "t4g.small"

  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.[a-z0-9]+$", var.instance_type))
    error_message = "The instance_type is a Graviton type such as t4g.small or m7g.medium."
  }
}

variable "source_ami_id" {
  description = "Exact image to build on; empty: the release that versions_file pins."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(ami-[0-9a-f]{8,17})?$", var.source_ami_id))
    error_message = "The source_ami_id is an AMI id such as ami-0123456789abcdef0, or empty."
  }
}

variable "subnet_id" {
  description = "Subnet of the builder; empty: the default VPC's."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(subnet-[0-9a-f]{8,17})?$", var.subnet_id))
    error_message = "The subnet_id is written like subnet-0123456789abcdef0, or empty."
  }
}

variable "ssh_source_cidr" {
  description = "The addresses that may reach the builder's SSH; empty: the one that the plugin finds this machine to have."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|([0-9]{1,3}\\.){3}[0-9]{1,3}/(1[6-9]|2[0-9]|3[0-2]))$", var.ssh_source_cidr))
    error_message = "The ssh_source_cidr is written like 192.0.2.7/32, /16 at the widest: nobody else is to reach a builder."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB. It is disposable: data lives on a volume of its own at /data."
  type        = number
  default     = 10

  validation {
    condition     = var.root_volume_gib >= 8 && var.root_volume_gib <= 100 && floor(var.root_volume_gib) == var.root_volume_gib
    error_message = "The root_volume_gib is a whole number of 8 (the base image's size) to 100."
  }
}

variable "root_encrypted" {
  description = "Encrypt the root volume and with it the image. An image on the account's default key can't be shared."
  type        = bool
  default     = true
}

variable "kms_key_id" {
  description = "KMS key (id, ARN or alias/…) for the root volume; empty: the account's default key for EBS."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?(key/)?[0-9a-zA-Z-]{10,}|(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?alias/[a-zA-Z0-9/_-]+)$", var.kms_key_id))
    error_message = "The kms_key_id is a key's id, ARN or alias/NAME, or empty."
  }
}

# ---- Who may use it, and how long ----

variable "ami_users" {
  description = "AWS accounts (12 digits) that may launch the image."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for account in var.ami_users : can(regex("^[0-9]{12}$", account))])
    error_message = "The ami_users are account ids of 12 digits each."
  }
}

variable "deprecate_at" {
  description = "When the image is to be deprecated (RFC 3339, UTC), or empty for never."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z)?$", var.deprecate_at))
    error_message = "The deprecate_at is written like 2027-01-31T00:00:00Z, or empty."
  }
}

# ---- Provenance, written into tags ----

variable "commit" {
  description = "Git commit that the image is built from."
  type        = string
  default     = "unknown"

  validation {
    condition     = can(regex("^(unknown|[0-9a-f]{40}(-dirty)?)$", var.commit))
    error_message = "The commit is 40 hex digits (with -dirty for a tree that has changes), or unknown."
  }
}

variable "tree_digest" {
  description = "SHA-256 over everything that goes into the image, or unknown."
  type        = string
  default     = "unknown"

  validation {
    condition     = can(regex("^(unknown|[0-9a-f]{64})$", var.tree_digest))
    error_message = "The tree_digest is a SHA-256 in hex, or unknown."
  }
}

variable "tool_versions" {
  description = "Versions of the tools that build it, for example packer=1.15.0 amazon=1.8.2."
  type        = string
  default     = "unknown"

  validation {
    condition     = length(var.tool_versions) > 0 && length(var.tool_versions) <= 256
    error_message = "The tool_versions fit a tag's value: 1 to 256 characters."
  }
}

# ---- What comes back ----

variable "output_dir" {
  description = "Directory on this machine for manifest.json, inventory.json and rpms/ (what had to be compiled)."
  type        = string
  default     = "../../build/packer/test-local"

  validation {
    condition     = length(var.output_dir) > 0
    error_message = "The output_dir names a directory."
  }
}
