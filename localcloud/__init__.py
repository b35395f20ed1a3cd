"""An EC2 on one machine: moto's API, with instances that boot.

An instance is a systemd-nspawn machine, an image a stack of overlay layers, a volume a loop device; or, where a cloud
is asked for that, an instance is a whole machine in QEMU and an image a stack of disks (machine/qemu/). Key pairs, user
data, instance metadata (IMDSv2) with role credentials, console output, DHCP, DNS and `*.amazonaws.com` over TLS work
inside machines as they do on AWS, and so does SSM's Run Command. The rest of SSM, S3, IAM, STS, KMS, SES and CloudWatch
is moto's own; what a caller may do is decided by iam/.

What a reader should know that it does *not* do:

- Security groups, network ACLs and route tables are recorded, not enforced. A machine reaches the cloud's services and
  other machines of its cloud, nothing else; the host reaches every port of every machine.
- IAM decides every call by the policies of its caller (iam/); signatures are not checked, nor what AWS asks for itself.
- The root volume is the machine's overlay: it has a size on record only, and no block device inside (in QEMU it has
  one, of the base image's size).
- There is no udev in a systemd-nspawn machine: nodes and links of volumes are made by hand (machine/devices.py).
- SSM's Run Command has no agent of AWS's in the machine: the cloud runs the script there itself (services/ssm.py), in
  QEMU by an agent of its own on the disk.
- Public SSM parameters (/aws/service/…) are moto's own and name images that are not in the catalogue.

The parts, in the order in which `control.up` meets them:

- on the host: settings, host/ and net/addresses; then environment, to use a cloud;
- in the cloud's own namespaces: server, with net/network inside and net/egress outside of them;
- what is real there: machine/ (by systemd-nspawn or by QEMU), layers, volumes, devices, and ec2/fleet over them;
- what is spoken there: api/ takes calls, and with iam/ decides them; ec2/ and services/ replace moto's own parts; imds/
  answers machines.

machine/base.py prepares the tree of a base image.
"""
