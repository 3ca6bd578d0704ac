//! The keys of AWS's shapes: those that mean something here (first), and those
//! that the AWS CLI writes beside them. All others are noticed.

/// Used, and written beside those.
pub(super) type Keys = (&'static [&'static str], &'static [&'static str]);

pub(super) const DOCUMENT: Keys = (
    &[
        "SecurityGroups",
        "SecurityGroupRules",
        "NetworkInterfaces",
        "PrefixLists",
        "PrefixListEntries",
        "Vpcs",
        "Subnets",
        "NetworkAcls",
        "VpcPeeringConnections",
        "Bindings",
        "Settings",
        "NextToken",
    ],
    &["ResponseMetadata"],
);

pub(super) const VPC: Keys = (
    &["VpcId", "Ipv6CidrBlockAssociationSet"],
    &[
        "BlockPublicAccessStates",
        "CidrBlock",
        "CidrBlockAssociationSet",
        "DhcpOptionsId",
        "EncryptionControl",
        "InstanceTenancy",
        "IsDefault",
        "OwnerId",
        "State",
        "Tags",
    ],
);

pub(super) const SUBNET: Keys = (
    &["SubnetId", "VpcId", "CidrBlock", "Ipv6CidrBlockAssociationSet"],
    &[
        "AssignIpv6AddressOnCreation",
        "AvailabilityZone",
        "AvailabilityZoneId",
        "AvailableIpAddressCount",
        "BlockPublicAccessStates",
        "CustomerOwnedIpv4Pool",
        "DefaultForAz",
        "EnableDns64",
        "EnableLniAtDeviceIndex",
        "Ipv6Native",
        "MapCustomerOwnedIpOnLaunch",
        "MapPublicIpOnLaunch",
        "OutpostArn",
        "OwnerId",
        "PrivateDnsNameOptionsOnLaunch",
        "State",
        "SubnetArn",
        "Tags",
        "Type",
    ],
);

pub(super) const NETWORK_ACL: Keys =
    (&["NetworkAclId", "VpcId", "Entries", "Associations"], &["IsDefault", "OwnerId", "Tags"]);

pub(super) const ACL_ENTRY: Keys = (
    &[
        "RuleNumber",
        "Protocol",
        "RuleAction",
        "Egress",
        "CidrBlock",
        "Ipv6CidrBlock",
        "PortRange",
        "IcmpTypeCode",
    ],
    &[],
);

pub(super) const ACL_ASSOCIATION: Keys = (&["SubnetId"], &["NetworkAclAssociationId", "NetworkAclId"]);

pub(super) const PEERING: Keys = (
    &["VpcPeeringConnectionId", "RequesterVpcInfo", "AccepterVpcInfo", "Status"],
    &["ExpirationTime", "Tags"],
);

pub(super) const PREFIX_LIST: Keys = (
    &["PrefixListId", "PrefixListName", "AddressFamily", "MaxEntries", "Version", "OwnerId", "Cidrs"],
    &[
        "IpamPrefixListResolverSyncEnabled",
        "IpamPrefixListResolverTargetId",
        "PrefixListArn",
        "State",
        "StateMessage",
        "Tags",
    ],
);

pub(super) const PREFIX_LIST_ENTRY: Keys = (&["Cidr", "Description"], &[]);

pub(super) const GROUP: Keys = (
    &["GroupId", "GroupName", "Description", "VpcId", "IpPermissions", "IpPermissionsEgress"],
    &["OwnerId", "SecurityGroupArn", "Tags"],
);

pub(super) const PERMISSION: Keys = (
    &["IpProtocol", "FromPort", "ToPort", "IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"],
    &[],
);

/// An item of a permission's lists. The key of its own list is used, one of
/// another list is refused as a second source.
pub(super) const PEER: Keys = (
    &[
        "CidrIp",
        "CidrIpv6",
        "PrefixListId",
        "GroupId",
        "Description",
        "PeeringStatus",
        "VpcPeeringConnectionId",
    ],
    &["GroupName", "UserId", "VpcId"],
);

pub(super) const RULE: Keys = (
    &[
        "SecurityGroupRuleId",
        "GroupId",
        "IsEgress",
        "IpProtocol",
        "FromPort",
        "ToPort",
        "CidrIpv4",
        "CidrIpv6",
        "PrefixListId",
        "ReferencedGroupInfo",
        "Description",
    ],
    &["GroupOwnerId", "SecurityGroupRuleArn", "Tags"],
);

pub(super) const INTERFACE: Keys = (
    &[
        "NetworkInterfaceId",
        "VpcId",
        "SubnetId",
        "MacAddress",
        "Groups",
        "PrivateIpAddress",
        "PrivateIpAddresses",
        "Ipv6Addresses",
        "Ipv4Prefixes",
        "Ipv6Prefixes",
        "SourceDestCheck",
        "Attachment",
        "ConnectionTrackingConfiguration",
    ],
    &[
        "AssociatedSubnets",
        // Public addresses count for nothing (S35, D7).
        "Association",
        "AvailabilityZone",
        "AvailabilityZoneId",
        "DenyAllIgwTraffic",
        "Description",
        "InterfaceType",
        "Ipv6Address",
        "Ipv6Native",
        "Operator",
        "OutpostArn",
        "OwnerId",
        "PrivateDnsName",
        "PublicDnsName",
        "PublicIpDnsNameOptions",
        "RequesterId",
        "RequesterManaged",
        "Status",
        "TagSet",
        "Tags",
    ],
);

pub(super) const TIMEOUTS: Keys = (&["TcpEstablishedTimeout", "UdpTimeout", "UdpStreamTimeout"], &[]);

pub(super) const BINDING: Keys =
    (&["NetworkInterfaceId", "Port", "Uplink", "VpcId", "VlanId", "MacAddresses"], &[]);

pub(super) const SETTINGS: Keys =
    (&["Quotas", "StrictRuleDescriptions", "Timeouts", "ExemptServices", "NetworkInterfaces"], &[]);

pub(super) const EXEMPT_SERVICE: Keys = (&["Address", "Protocol", "Port"], &[]);

pub(super) const INTERFACE_SETTINGS: Keys = (&["ForceTracking", "IcmpErrors"], &[]);

pub(super) const QUOTAS: Keys = (&["RulesPerSecurityGroup", "SecurityGroupsPerInterface"], &[]);
