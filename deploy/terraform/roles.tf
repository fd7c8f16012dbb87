data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # No other account's task may be given these roles.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.this.account_id]
    }
  }
}

resource "aws_iam_role" "control_plane" {
  name               = "${var.name}-control-plane"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "control_plane" {
  name = "control-plane"
  role = aws_iam_role.control_plane.id

  policy = templatefile("${path.module}/../policies/control-plane.json", {
    name         = var.name
    partition    = data.aws_partition.this.partition
    region       = data.aws_region.this.name
    account      = data.aws_caller_identity.this.account_id
    trust_domain = var.trust_domain
    ca_arn       = aws_acmpca_certificate_authority.mesh.arn
    kms_key_arn  = aws_kms_key.secrets.arn
    cluster_arn  = var.cluster_arn
  })
}

# Keys of services that have one of their own, for their certificates.
resource "aws_iam_role_policy" "service_key" {
  count = length(var.service_kms_keys)
  name  = "service-key-${count.index}"
  role  = aws_iam_role.control_plane.id

  policy = templatefile("${path.module}/../policies/service-key.json", {
    kms_key_arn = var.service_kms_keys[count.index]
  })
}

# Where EC2 instances join by their role.
resource "aws_iam_role_policy" "instances" {
  count  = length(var.instances) == 0 ? 0 : 1
  name   = "instances"
  role   = aws_iam_role.control_plane.id
  policy = file("${path.module}/../policies/instances.json")
}

# By this ECS fetches images and writes logs, for the control plane and for the
# services.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

# One role for each service: whoever has it gets that service's certificate, and
# no other. Applications' own permissions are added to it elsewhere.
resource "aws_iam_role" "service" {
  for_each           = var.services
  name               = "${var.name}-service-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "service" {
  for_each = var.services
  name     = "identity"
  role     = aws_iam_role.service[each.key].id
  policy   = file("${path.module}/../policies/task.json")
}
