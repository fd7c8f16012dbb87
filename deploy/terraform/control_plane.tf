locals {
  # The control plane's file, docs/reference/config.md, but for what differs
  # between replicas.
  configuration = {
    trustDomain      = var.trust_domain
    namespaces       = var.namespaces
    createNamespaces = true
    data             = "/data"
    xds              = { listen = "0.0.0.0:${local.ports.xds}" }
    agent            = { listen = "0.0.0.0:${local.ports.agent}" }
    replicas         = { listen = "0.0.0.0:${local.peers}" }
    issuers          = { (aws_acmpca_certificate_authority_certificate.root.certificate_authority_arn) = { privateCA = {} } }
    secrets          = { secretsManager = { kmsKey = aws_kms_key.secrets.arn } }
    log              = { format = "json" }

    identities = {
      taskRoles = length(var.services) == 0 ? null : {
        workloads = [for name, service in var.services : {
          namespace      = service.namespace
          workload       = name
          discoveryNames = service.discovery_names
          role           = aws_iam_role.service[name].arn
          cluster        = element(split("/", var.cluster_arn), 1)
        }]
      }

      instanceRoles = length(var.instances) == 0 ? null : {
        workloads = [for name, machines in var.instances : {
          namespace      = machines.namespace
          workload       = name
          discoveryNames = machines.discovery_names
          role           = machines.role_arn
        }]
      }
    }
  }
}

resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/${var.name}/control-plane"
  retention_in_days = 30
}

resource "aws_ecs_task_definition" "control_plane" {
  count                    = var.replicas
  family                   = "${var.name}-control-plane-${count.index}"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = "1024"
  memory                   = "2048"
  task_role_arn            = aws_iam_role.control_plane.arn
  execution_role_arn       = aws_iam_role.execution.arn

  container_definitions = jsonencode([{
    name      = "patchbay"
    image     = var.image
    essential = true

    command = ["serve", "--config-text", jsonencode(merge(local.configuration, {
      cloudMap = { region = data.aws_region.this.name, events = { queueURL = aws_sqs_queue.events[count.index].url } }
    }))]

    environment  = [{ name = "AWS_REGION", value = data.aws_region.this.name }]
    portMappings = [for port in values(local.ports) : { containerPort = port, protocol = "tcp" }]
    stopTimeout  = 30

    mountPoints = [
      { sourceVolume = "replica-${count.index}", containerPath = "/data" },
      { sourceVolume = "control", containerPath = "/data/control" },
      { sourceVolume = "identities", containerPath = "/data/identities" },
    ]

    healthCheck = {
      command     = ["CMD", "/usr/local/bin/patchbay", "serve", "health"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 120
    }

    logConfiguration = {
      logDriver = "awslogs"

      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.control_plane.name
        "awslogs-region"        = data.aws_region.this.name
        "awslogs-stream-prefix" = "replica-${count.index}"
      }
    }
  }])

  dynamic "volume" {
    for_each = ["replica-${count.index}", "control", "identities"]

    content {
      name = volume.value

      efs_volume_configuration {
        file_system_id     = aws_efs_file_system.data.id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = aws_efs_access_point.data[volume.value].id
        }
      }
    }
  }
}

# A service for each replica, as each has a directory and a queue of its own. Of
# one the old task ends before the new one starts; meanwhile the others serve.
resource "aws_ecs_service" "control_plane" {
  count                              = var.replicas
  name                               = "${var.name}-control-plane-${count.index}"
  cluster                            = var.cluster_arn
  task_definition                    = aws_ecs_task_definition.control_plane[count.index].arn
  desired_count                      = 1
  launch_type                        = "FARGATE"
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  wait_for_steady_state              = true

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.control_plane.id]
  }

  dynamic "load_balancer" {
    for_each = local.ports

    content {
      target_group_arn = aws_lb_target_group.control_plane[load_balancer.key].arn
      container_name   = "patchbay"
      container_port   = load_balancer.value
    }
  }

  depends_on = [aws_lb_listener.control_plane, aws_efs_mount_target.data, aws_iam_role_policy.control_plane]
}
