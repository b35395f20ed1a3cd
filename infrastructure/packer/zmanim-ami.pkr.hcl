# The image: Amazon Linux 2023 on ARM64 with PostgreSQL + PostGIS, Redis, the API, and its backups.
# README.md tells what is in it and why; scripts/ runs while building, files/ is what is shipped.

locals {
  versions   = jsondecode(file(var.versions_file))
  postgresql = local.versions.servers.postgresql.major
  redis      = local.versions.servers.redis.major

  # On tmpfs: it vanishes when the builder stops, so nothing of it can get into the snapshot.
  staging = "/run/zmanim-build"

  tags = {
    "Name"                   = "zmanim-${var.version}"
    "zmanim:version"         = var.version
    "zmanim:run"             = var.run
    "zmanim:commit"          = var.commit
    "zmanim:tree-digest"     = var.tree_digest
    "zmanim:tool-versions"   = var.tool_versions
    "zmanim:programs"        = local.versions.programs.architecture
    "zmanim:source-ami"      = "{{ .SourceAMI }}"
    "zmanim:source-ami-name" = "{{ .SourceAMIName }}"
  }

  builder_tags = {
    "Name"           = "zmanim-builder-${var.version}"
    "zmanim:builder" = "true"
    "zmanim:run"     = var.run
  }
}

# A build without the API's bundle ends here, before it launches anything. `packer validate` goes on: it knows no result
# of a data source, so that it can't ask for the file, and a fresh clone validates with nothing built.
data "null" "manifest" {
  input = "manifest.json"
}

data "null" "bundle" {
  input = fileexists("${var.bundle_dir}/${data.null.manifest.output}") ? "is there" : file("${var.bundle_dir} (the API's bundle: ./inv build-binary --version ${var.version} makes it)")
}

source "amazon-ebs" "al2023" {
  region        = var.region
  instance_type = var.instance_type
  subnet_id     = var.subnet_id

  # ---- The base ----
  source_ami = var.source_ami_id

  # Derived from the pinned release, deprecated images included: AWS deprecates each after 90 days, and the same commit
  # must build the same image after that too.
  dynamic "source_ami_filter" {
    for_each = var.source_ami_id == "" ? [local.versions.base] : []
    content {
      filters = {
        name                = "al2023-ami-${source_ami_filter.value.release}.*-kernel-${source_ami_filter.value.kernel}-arm64"
        architecture        = "arm64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners             = ["amazon"]
      most_recent        = true
      include_deprecated = true
    }
  }

  # ---- The builder ----
  # This protects the builder only; imds_support below is what instances of the image get.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.root_volume_gib
    encrypted             = var.root_encrypted
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  # Else the plugin asks for `standard` credits, of which a new T instance has none: it would run at a fifth of its
  # processors. For other types the plugin refuses this.
  enable_unlimited_credits = can(regex("^t[0-9]", var.instance_type))

  # Never the plugin's default, which is everybody.
  temporary_security_group_source_cidrs     = var.ssh_source_cidr == "" ? [] : [var.ssh_source_cidr]
  temporary_security_group_source_public_ip = var.ssh_source_cidr == ""

  communicator              = "ssh"
  ssh_username              = "ec2-user"
  ssh_timeout               = "5m"
  temporary_key_pair_type   = "ed25519"
  ssh_clear_authorized_keys = true
  shutdown_behavior         = "terminate"

  run_tags        = local.builder_tags
  run_volume_tags = local.builder_tags

  # ---- The image ----
  ami_name        = "zmanim-${var.version}"
  ami_description = "zmanim ${var.version}: Amazon Linux 2023 (ARM64), PostgreSQL ${local.postgresql} + PostGIS, Redis ${local.redis}, the zmanim API"
  imds_support    = "v2.0"
  ami_users       = var.ami_users
  deprecate_at    = var.deprecate_at
  tags            = local.tags
  snapshot_tags   = local.tags
}

build {
  name    = "zmanim"
  sources = ["source.amazon-ebs.al2023"]

  provisioner "shell" {
    # Without sudo: until cloud-init is done there may be no rule for it yet.
    execute_command = "{{ .Vars }} bash {{ .Path }}"
    env             = { STAGING = local.staging }
    script          = "${path.root}/scripts/wait-for-cloud-init.sh"
  }

  provisioner "file" {
    sources     = ["${path.root}/scripts", "${path.root}/files"]
    destination = local.staging
  }

  provisioner "file" {
    source      = var.versions_file
    destination = "${local.staging}/versions.json"
  }

  # Directories of staging, and what they are made from: the bundle, and what may be empty.
  # `generated`: the pipeline makes them, so that a fresh clone validates with nothing built.
  dynamic "provisioner" {
    labels   = ["file"]
    for_each = { for name, directory in { bundle = var.bundle_dir, package-cache = var.package_cache, keys = var.release_keys } : name => directory if directory != "" }
    content {
      generated   = true
      source      = "${provisioner.value}/"
      destination = "${local.staging}/${provisioner.key}"
    }
  }

  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} bash -e {{ .Path }}"
    env = {
      STAGING         = local.staging
      IMAGE_VERSION   = var.version
      POSTGRESQL_REPO = var.postgresql_repo
      RELEASE_KEYS    = var.release_keys == "" ? "none" : "given"
    }
    inline = [
      join(" ", [
        "bash $STAGING/scripts/run-steps.sh",
        "install-packages", "configure-postgres", "configure-redis", "install-restic", "remove-build-tools",
        "configure-systemd", "repositories", "cleanup", "validate", "inventory",
      ])
    ]
  }

  provisioner "file" {
    direction   = "download"
    sources     = [for name in ["inventory.json", "updateinfo.xml.gz", "rpms/"] : "${local.staging}/output/${name}"]
    destination = "${var.output_dir}/"
  }

  post-processor "manifest" {
    output     = "${var.output_dir}/manifest.json"
    strip_path = true
    custom_data = {
      version     = var.version
      commit      = var.commit
      tree_digest = var.tree_digest
    }
  }
}
