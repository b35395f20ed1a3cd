"""Everything that serves: moto as it is changed for the fleet, the API's two listeners, the metadata service."""

from __future__ import annotations

from dataclasses import dataclass

from localcloud.api.admission import Admission
from localcloud.api.application import Api
from localcloud.api.listener import listen
from localcloud.api.patches import apply
from localcloud.cloudwatch import alarms, reading
from localcloud.ec2 import (
    account_settings,
    amis,
    dependencies,
    image_attributes,
    instance_attributes,
    instance_filters,
    instances,
    snapshots,
)
from localcloud.ec2 import volumes as ec2_volumes
from localcloud.ec2.account import addresses, attributes, groups, key_pairs, tags
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.images import describing, references
from localcloud.ec2.launch import launches, places, purchases, rules, templates, tokens
from localcloud.faults.injection import Faults
from localcloud.iam import boundaries, resource_policies, temporary
from localcloud.iam.authorization import Authorizer
from localcloud.imds import server as metadata_server
from localcloud.imds.instance_metadata import MetadataLookup
from localcloud.journal import Journal
from localcloud.machine.kinds import kind_of
from localcloud.net.network import Interfaces
from localcloud.services import (
    iam_documents,
    kms,
    kms_keys,
    parameters,
    pretended,
    public_parameters,
    s3,
    s3_access,
    sns,
    ssm,
)
from localcloud.services.confirmations import Confirmations
from localcloud.services.ses import Mails
from localcloud.settings import QEMU, BaseImage, Cloud, CloudSettings, ended_sessions


@dataclass(frozen=True)
class Emulation:
    """The API of one cloud, with what is mailed and watched behind it."""

    api: Api
    confirmations: Confirmations
    alarms: alarms.Alarms


def serve(settings: CloudSettings, cloud: Cloud) -> None:
    """Start serving, in threads. Raises `layer-failed` or `cloud-failed`."""
    fleet = Fleet(cloud.directory, Interfaces(cloud), kind_of(settings))
    regions = amis.regions()
    for image in settings.images:
        source = image.disk if settings.machines == QEMU and image.disk else image.root
        fleet.layers.add_base([amis.base_image_id(image.name, region) for region in regions], source)
    emulation = emulate(settings.images, cloud, fleet)
    emulation.alarms.watch()
    listen(emulation.confirmations.before(emulation.api), cloud.link_address, 5000)
    listen(emulation.api, cloud.gateway, 443, cloud.directory / "server.pem")
    metadata_server.serve(MetadataLookup(fleet))


def emulate(images: tuple[BaseImage, ...], cloud: Cloud, fleet: Fleet) -> Emulation:
    """Change moto to be a cloud over a fleet that has the layers of `images`, and return what serves that."""
    directory = cloud.directory
    faults = Faults(directory)
    apply(amis, amis.Images(fleet, images), image_attributes, describing, references)
    apply(snapshots, snapshots.Snapshots(fleet), account_settings, public_parameters, parameters, pretended)
    machines = instances.Instances(fleet, faults)
    launched = launches.Launches(fleet, machines.begin)
    apply(instances, machines, instance_attributes, instance_attributes.InstanceAttributes(fleet), instance_filters)
    apply(launched, purchases, purchases.Purchases(launched), places, rules, templates, tokens)
    apply(addresses, attributes, groups, key_pairs, tags)
    apply(dependencies, ec2_volumes, ec2_volumes.Volumes(fleet))
    confirmations = Confirmations(Journal(directory / "confirmations.jsonl"), cloud.endpoint)
    notifications = sns.Notifications(Journal(directory / "notifications.jsonl"), confirmations)
    watched = alarms.Alarms(sns.publish)
    apply(
        iam_documents,
        kms,
        kms_keys,
        s3,
        s3_access,
        ssm,
        ssm.Agent(fleet, faults),
        faults.late,
        resource_policies,
        boundaries,
        temporary,
    )
    apply(Mails(Journal(directory / "mails.jsonl"), confirmations))
    apply(notifications, alarms, watched, reading)

    def source_of(address: str) -> str:
        return "host" if address == cloud.host_address else fleet.by_address(address) or address

    authorizer = Authorizer(
        Journal(directory / "authorization.jsonl"), cloud.region, cloud.key, ended_sessions(directory)
    )
    api = Api(
        Journal(directory / "api.jsonl"),
        source_of,
        authorizer.refusal,
        admission=Admission(cloud).refusal,
        faults=faults,
    )
    return Emulation(api, confirmations, watched)
