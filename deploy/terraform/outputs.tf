output "xds" {
  description = "For patchbay inject ecs --xds"
  value       = "${aws_lb.control_plane.dns_name}:${local.ports.xds}"
}

output "agent" {
  description = "For patchbay inject ecs --agent"
  value       = "${aws_lb.control_plane.dns_name}:${local.ports.agent}"
}

output "ca_arn" {
  description = "For tls.issuerCertificateAuthority.awsPcaAuthorityArn of services"
  value       = aws_acmpca_certificate_authority.mesh.arn
}

output "service_roles" {
  description = "For taskRoleArn of each service's task definition"
  value       = { for name, role in aws_iam_role.service : name => role.arn }
}

output "execution_role" {
  description = "For executionRoleArn of the services' task definitions"
  value       = aws_iam_role.execution.arn
}

output "task_definition" {
  description = "For tasks that run a command beside the control plane"
  value       = aws_ecs_task_definition.control_plane[0].arn
}

output "security_group" {
  description = "Of the control plane's tasks"
  value       = aws_security_group.control_plane.id
}

output "log_group" {
  description = "Of the control plane"
  value       = aws_cloudwatch_log_group.control_plane.name
}
