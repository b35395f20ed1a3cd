"""Everything that serves: moto as it is changed for the fleet, the API's two listeners, the metadata service."""

from __future__ import annotations

from localcloud.api.admission import Admission
from localcloud.api.application import Api
from localcloud.api.listener import listen
from localcloud.api.patches import apply
from localcloud.cloudwatch import alarms
from localcloud.ec2 import amis, image_attributes, instances, launch_rules
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.volumes import Volumes
from localcloud.faults.injection import Faults
from localcloud.iam import resource_policies
from localcloud.iam.authorization import Authorizer
from localcloud.imds import server as metadata_server
from localcloud.imds.instance_metadata import MetadataLookup
from localcloud.journal import Journal
from localcloud.net.network import Interfaces
from localcloud.services import s3, sns, ssm
from localcloud.services.confirmations import Confirmations
from localcloud.services.ses import Mails
from localcloud.settings import Cloud, CloudSettings, ended_sessions


def serve(settings: CloudSettings, cloud: Cloud) -> None:
    """Start serving, in threads. Raises `layer-failed` or `cloud-failed`."""
    directory = cloud.directory
    fleet = Fleet(directory, Interfaces(cloud))
    faults = Faults(directory)
    regions = amis.regions()
    for image in settings.images:
        fleet.layers.add_base([amis.base_image_id(image.name, region) for region in regions], image.root)
    apply(amis, amis.Images(fleet, settings.images), instances, instances.Instances(fleet, faults), Volumes(fleet))
    apply(image_attributes, launch_rules)
    confirmations = Confirmations(Journal(directory / "confirmations.jsonl"), cloud.endpoint)
    notifications = sns.Notifications(Journal(directory / "notifications.jsonl"), confirmations)
    watched = alarms.Alarms(sns.publish)
    apply(s3, ssm, ssm.Agent(fleet, faults), faults.late, resource_policies)
    apply(Mails(Journal(directory / "mails.jsonl"), confirmations))
    apply(notifications, alarms, watched)
    watched.watch()

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
    listen(confirmations.before(api), cloud.link_address, 5000)
    listen(api, cloud.gateway, 443, directory / "server.pem")
    metadata_server.serve(MetadataLookup(fleet))
