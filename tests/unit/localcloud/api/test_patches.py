"""What of moto is replaced or added to is listed here: a release of moto that renames any of it fails by its name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from localcloud.api.patches import REGISTRY, Patch, add, apply, patch

MODULES = (
    "api.calls",
    "cloudwatch.alarms",
    "cloudwatch.reading",
    "ec2.account.attributes",
    "ec2.account.groups",
    "ec2.account.key_pairs",
    "ec2.account.tags",
    "ec2.account_settings",
    "ec2.amis",
    "ec2.dependencies",
    "ec2.image_attributes",
    "ec2.images.describing",
    "ec2.images.references",
    "ec2.instance_attributes",
    "ec2.instance_filters",
    "ec2.instances",
    "ec2.launch.launches",
    "ec2.launch.places",
    "ec2.launch.purchases",
    "ec2.launch.rules",
    "ec2.launch.templates",
    "ec2.launch.tokens",
    "ec2.snapshots",
    "ec2.volumes",
    "faults.late",
    "iam.boundaries",
    "iam.resource_policies",
    "iam.temporary",
    "services.iam_documents",
    "services.kms",
    "services.kms_keys",
    "services.parameters",
    "services.pretended",
    "services.public_parameters",
    "services.s3",
    "services.s3_access",
    "services.ses",
    "services.sns",
    "services.ssm",
)
REPLACED = """
autoscaling.models.FakeAutoScalingGroup._set_launch_configuration
autoscaling.models.FakeAutoScalingGroup.replace_autoscaling_group_instances
autoscaling.models.FakeLaunchConfiguration.create_from_instance
cloudwatch.models.CloudWatchBackend.get_metric_data
cloudwatch.models.CloudWatchBackend.get_metric_statistics
cloudwatch.models.CloudWatchBackend.put_metric_alarm
cloudwatch.models.CloudWatchBackend.put_metric_data
core.responses.BaseResponse._get_action
ec2.models.EC2Backend.do_resources_exist
ec2.models.amis.Ami.__init__
ec2.models.amis.Ami.block_device_mappings
ec2.models.amis.AmiBackend._load_amis
ec2.models.amis.AmiBackend.describe_images
ec2.models.elastic_block_store.EBSBackend._create_default_encryption_key
ec2.models.elastic_block_store.EBSBackend.attach_volume
ec2.models.elastic_block_store.EBSBackend.create_snapshot
ec2.models.elastic_block_store.EBSBackend.create_volume
ec2.models.elastic_block_store.EBSBackend.delete_snapshot
ec2.models.elastic_block_store.EBSBackend.delete_volume
ec2.models.elastic_block_store.EBSBackend.detach_volume
ec2.models.elastic_block_store.Snapshot.__init__
ec2.models.elastic_block_store.Volume.__init__
ec2.models.elastic_block_store.Volume.get_filter_value
ec2.models.elastic_block_store.VolumeModification.modification_state
ec2.models.elastic_network_interfaces.NetworkInterface.association
ec2.models.fleets.Fleet.create_on_demand_requests
ec2.models.fleets.Fleet.create_spot_requests
ec2.models.instances.Instance.applies
ec2.models.instances.Instance.reboot
ec2.models.instances.Instance.start
ec2.models.instances.Instance.stop
ec2.models.instances.Instance.terminate
ec2.models.instances.InstanceBackend.all_reservations
ec2.models.instances.InstanceBackend.describe_instances
ec2.models.instances.InstanceBackend.get_reservations_by_instance_ids
ec2.models.instances.InstanceBackend.modify_instance_metadata_options
ec2.models.instances.InstanceBackend.run_instances
ec2.models.key_pairs.KeyPairBackend.import_key_pair
ec2.models.launch_templates.LaunchTemplate.get_version
ec2.models.launch_templates.LaunchTemplateBackend.describe_launch_templates
ec2.models.security_groups.SecurityGroupBackend.create_security_group
ec2.models.spot_requests.SpotInstanceRequest.launch_instance
ec2.models.subnets.SubnetBackend.create_subnet
ec2.models.subnets.SubnetBackend.delete_subnet
ec2.models.vpcs.VPCBackend.delete_vpc
ec2.responses.account_attributes.AccountAttributes.describe_account_attributes
ec2.responses.amis.AmisResponse.copy_image
ec2.responses.amis.AmisResponse.create_image
ec2.responses.amis.AmisResponse.deregister_image
ec2.responses.amis.AmisResponse.describe_image_attribute
ec2.responses.amis.AmisResponse.describe_images
ec2.responses.amis.AmisResponse.disable_image
ec2.responses.amis.AmisResponse.enable_image
ec2.responses.amis.AmisResponse.modify_image_attribute
ec2.responses.amis.AmisResponse.register_image
ec2.responses.amis.AmisResponse.reset_image_attribute
ec2.responses.availability_zones_and_regions.AvailabilityZonesAndRegions.describe_regions
ec2.responses.elastic_block_store.ElasticBlockStore.copy_snapshot
ec2.responses.elastic_block_store.ElasticBlockStore.create_snapshot
ec2.responses.elastic_block_store.ElasticBlockStore.create_volume
ec2.responses.elastic_block_store.ElasticBlockStore.delete_snapshot
ec2.responses.elastic_block_store.ElasticBlockStore.describe_snapshots
ec2.responses.elastic_block_store.ElasticBlockStore.describe_volume_attribute
ec2.responses.elastic_block_store.ElasticBlockStore.describe_volume_status
ec2.responses.elastic_block_store.ElasticBlockStore.describe_volumes
ec2.responses.elastic_block_store.ElasticBlockStore.modify_ebs_default_kms_key_id
ec2.responses.elastic_block_store.ElasticBlockStore.modify_snapshot_attribute
ec2.responses.elastic_block_store.ElasticBlockStore.modify_volume
ec2.responses.elastic_block_store.ElasticBlockStore.reset_snapshot_attribute
ec2.responses.elastic_network_interfaces.ElasticNetworkInterfaces.delete_network_interface
ec2.responses.fleets.Fleets.create_fleet
ec2.responses.general.General.get_console_output
ec2.responses.instances.InstanceResponse.describe_instance_credit_specifications
ec2.responses.instances.InstanceResponse.describe_instances
ec2.responses.instances.InstanceResponse.modify_instance_attribute
ec2.responses.instances.InstanceResponse.run_instances
ec2.responses.instances.InstanceResponse.start_instances
ec2.responses.instances.InstanceResponse.stop_instances
ec2.responses.instances.InstanceResponse.terminate_instances
ec2.responses.launch_templates.LaunchTemplates.create_launch_template
ec2.responses.launch_templates.LaunchTemplates.create_launch_template_version
ec2.responses.monitoring.Monitoring.monitor_instances
ec2.responses.monitoring.Monitoring.unmonitor_instances
ec2.responses.security_groups.SecurityGroups.create_security_group
ec2.responses.security_groups.SecurityGroups.delete_security_group
ec2.responses.spot_instances.SpotInstances.request_spot_instances
ec2instanceconnect.responses.Ec2InstanceConnectResponse.send_ssh_public_key
iam.models.IAMBackend.create_role
iam.responses.IamResponse.create_user
iam.responses.IamResponse.list_users
kms.models.KmsBackend.create_alias
kms.models.KmsBackend.decrypt
kms.models.KmsBackend.encrypt
kms.responses.KmsResponse._set_alias
kms.responses.KmsResponse.create_grant
kms.responses.KmsResponse.create_key
kms.responses.KmsResponse.get_public_key
kms.responses.KmsResponse.put_key_policy
kms.responses.KmsResponse.schedule_key_deletion
kms.responses.KmsResponse.sign
kms.responses.KmsResponse.verify
s3.models.FakeBucket.__init__
s3.models.FakeBucket.get_permission
s3.models.S3Backend.complete_multipart_upload
s3.models.S3Backend.copy_object
s3.models.S3Backend.create_bucket
s3.models.S3Backend.delete_bucket_encryption
s3.models.S3Backend.put_bucket_policy
s3.models.S3Backend.upload_part
s3.models.S3Backend.upload_part_copy
s3.responses.S3Response._acl_from_body
s3.responses.S3Response._acl_from_headers
s3.responses.S3Response._get_checksum
ses.models.SESBackend._is_verified_address
ses.models.SESBackend.create_email_identity_v2
ses.models.SESBackend.delete_identity
ses.models.SESBackend.get_identity_verification_attributes
ses.models.SESBackend.send_email
ses.models.SESBackend.send_raw_email
ses.models.SESBackend.verify_email_identity
sns.models.SNSBackend.list_subscriptions_by_topic
sns.models.SNSBackend.subscribe
sns.models.Subscription.publish
sns.responses.SNSResponse.confirm_subscription
sns.responses.SNSResponse.subscribe
ssm.models.Command._get_instance_ids_from_targets
ssm.models.ParameterDict._load_latest_amis
ssm.models.ParameterDict._load_tree_parameters
ssm.models.SimpleSystemManagerBackend.get_command_by_id
ssm.models.SimpleSystemManagerBackend.send_command
ssm.responses.SimpleSystemManagerResponse.get_parameter
ssm.responses.SimpleSystemManagerResponse.get_parameters_by_path
ssm.responses.SimpleSystemManagerResponse.put_parameter
sts.models.STSBackend.get_caller_identity
sts.responses.TokenResponse.assume_role
sts.responses.TokenResponse.assume_role_with_web_identity
sts.responses.TokenResponse.get_caller_identity
sts.responses.TokenResponse.get_federation_token
sts.responses.TokenResponse.get_session_token
"""
ADDED = {
    "cloudwatch": "describe_alarm_history",
    "ec2": "describe_image_references disable_image_block_public_access disable_image_deprecation "
    "disable_image_deregistration_protection disable_snapshot_block_public_access "
    "enable_image_block_public_access enable_image_deprecation enable_image_deregistration_protection "
    "enable_snapshot_block_public_access get_ebs_default_kms_key_id get_image_block_public_access_state "
    "get_snapshot_block_public_access_state reset_ebs_default_kms_key_id",
    "iam": "add_client_id_to_open_id_connect_provider delete_user_permissions_boundary put_user_permissions_boundary "
    "remove_client_id_from_open_id_connect_provider",
    "sesv2": "get_account put_account_details",
    "ssm": "describe_instance_information list_command_invocations",
}


def declared(*, added: bool) -> list[Patch]:
    for name in MODULES:
        importlib.import_module(f"localcloud.{name}")
    own = [change for change in REGISTRY if change.function.__module__.startswith("localcloud.")]
    return [change for change in own if (change.original is None) == added]


def test_all_that_is_replaced_is_moto_s_and_listed_here() -> None:
    changes = declared(added=False)
    names = [f"{change.owner.__module__}.{change.owner.__qualname__}.{change.name}" for change in changes]
    assert sorted(names) == [f"moto.{name}" for name in REPLACED.split()]
    for change in changes:
        assert getattr(change.original, "fget", change.original).__module__.startswith("moto.")
        assert change.name in vars(change.owner)


def test_all_that_is_added_is_an_operation_of_its_service_and_listed_here() -> None:
    changes = declared(added=True)
    assert sorted(change.name for change in changes) == sorted(" ".join(ADDED.values()).split())
    for service, names in ADDED.items():
        operations = botocore.session.get_session().get_service_model(service).operation_names
        assert set(names.split()) <= {xform_name(operation) for operation in operations}


class Moto:
    """A class as moto's are: its methods are replaced from outside."""

    size = 1

    def total(self, more: int) -> int:
        return self.size + more

    @property
    def double(self) -> int:
        return 2 * self.size


@pytest.fixture
def moto() -> Iterator[Any]:
    """An object of that class, which is as it was afterwards."""
    before, declared = dict(vars(Moto)), len(REGISTRY)
    yield Moto()
    for name in vars(Moto).keys() - before.keys():
        delattr(Moto, name)
    for name in ("total", "double"):
        setattr(Moto, name, before[name])
    del REGISTRY[declared:]


def test_a_declaration_changes_nothing_until_it_is_applied_and_only_once_then(moto: Any) -> None:
    class Bigger:
        @patch(Moto.total, wraps=True)
        def total(self, original: Any, moto: Moto, more: int) -> int:
            return int(original(moto, more)) + 100

        @add(Moto)
        def half(self, moto: Moto) -> float:
            return moto.size / 2

    @patch(Moto.double)
    def double(moto: Moto) -> int:
        return 20 * moto.size

    assert (moto.total(1), moto.double) == (2, 2)
    for _ in range(2):
        apply(Bigger(), SimpleNamespace(double=double))
    assert (moto.total(1), moto.double, moto.half()) == (102, 20, 0.5)


def test_what_moto_has_by_now_is_not_added() -> None:
    def total(_moto: Moto) -> None:
        """Stand for an operation that moto lacked."""

    with pytest.raises(AttributeError, match="has total by now"):
        add(Moto)(total)
