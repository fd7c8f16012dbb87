locals {
  ports = { xds = 18000, agent = 18001 } # of the tasks
  peers = 18005                          # of the replicas among themselves
}

resource "aws_lb" "control_plane" {
  name                             = var.name
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = var.subnet_ids
  enable_cross_zone_load_balancing = true
}

# The tasks' own addresses must arrive: a task is believed from its own alone.
resource "aws_lb_target_group" "control_plane" {
  for_each               = local.ports
  name                   = "${var.name}-${each.key}"
  port                   = each.value
  protocol               = "TCP"
  target_type            = "ip"
  vpc_id                 = var.vpc_id
  preserve_client_ip     = "true"
  connection_termination = true
  deregistration_delay   = 15

  health_check {
    protocol = "TCP"
    interval = 10
  }
}

resource "aws_lb_listener" "control_plane" {
  for_each          = local.ports
  load_balancer_arn = aws_lb.control_plane.arn
  port              = each.value
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.control_plane[each.key].arn
  }
}

# From these the load balancer checks its targets.
data "aws_subnet" "control_plane" {
  for_each = toset(var.subnet_ids)
  id       = each.key
}

resource "aws_security_group" "control_plane" {
  name        = "${var.name}-control-plane"
  description = "The control plane"
  vpc_id      = var.vpc_id

  dynamic "ingress" {
    for_each = local.ports

    content {
      description = "Tasks, and the load balancer's checks"
      from_port   = ingress.value
      to_port     = ingress.value
      protocol    = "tcp"
      cidr_blocks = distinct(concat(var.client_cidrs, [for subnet in data.aws_subnet.control_plane : subnet.cidr_block]))
    }
  }

  ingress {
    description = "Other replicas"
    from_port   = local.peers
    to_port     = local.peers
    protocol    = "tcp"
    self        = true
  }

  egress {
    description = "The APIs of AWS"
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "data" {
  name        = "${var.name}-data"
  description = "The control plane's files"
  vpc_id      = var.vpc_id

  ingress {
    description     = "NFS"
    from_port       = 2049
    to_port         = 2049
    protocol        = "tcp"
    security_groups = [aws_security_group.control_plane.id]
  }
}

# Certificates are in Secrets Manager and services in Cloud Map. What is in files
# is the control channel's CA and the registered workloads, the same in all
# replicas, and of each its audit log and what it last knew.
resource "aws_efs_file_system" "data" {
  encrypted = true
}

resource "aws_efs_mount_target" "data" {
  count           = length(var.subnet_ids)
  file_system_id  = aws_efs_file_system.data.id
  subnet_id       = var.subnet_ids[count.index]
  security_groups = [aws_security_group.data.id]
}

resource "aws_efs_access_point" "data" {
  for_each       = toset(concat(["control", "identities"], [for i in range(var.replicas) : "replica-${i}"]))
  file_system_id = aws_efs_file_system.data.id

  root_directory {
    path = "/${each.key}"

    creation_info {
      owner_uid   = 0
      owner_gid   = 0
      permissions = "0700"
    }
  }
}
