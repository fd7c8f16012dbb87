# The CA of the services' certificates. Short-lived, so that certificates are
# cheap and none has to be revoked.
resource "aws_acmpca_certificate_authority" "mesh" {
  type       = "ROOT"
  usage_mode = "SHORT_LIVED_CERTIFICATE"

  certificate_authority_configuration {
    key_algorithm     = "EC_secp384r1"
    signing_algorithm = "SHA512WITHECDSA"

    subject {
      common_name = "${var.name} ${var.trust_domain}"
    }
  }

  # What AWS's own policy for Service Connect asks for, so that services which
  # ECS still manages can use the same CA.
  tags = {
    AmazonECSManaged = "true"
  }
}

resource "aws_acmpca_certificate" "root" {
  certificate_authority_arn   = aws_acmpca_certificate_authority.mesh.arn
  certificate_signing_request = aws_acmpca_certificate_authority.mesh.certificate_signing_request
  signing_algorithm           = "SHA512WITHECDSA"
  template_arn                = "arn:${data.aws_partition.this.partition}:acm-pca:::template/RootCACertificate/V1"

  validity {
    type  = "YEARS"
    value = 10
  }
}

resource "aws_acmpca_certificate_authority_certificate" "root" {
  certificate_authority_arn = aws_acmpca_certificate_authority.mesh.arn
  certificate               = aws_acmpca_certificate.root.certificate
  certificate_chain         = aws_acmpca_certificate.root.certificate_chain
}

resource "aws_ram_resource_share" "ca" {
  count                     = length(var.share_with) > 0 ? 1 : 0
  name                      = "${var.name}-ca"
  allow_external_principals = false
  permission_arns           = ["arn:${data.aws_partition.this.partition}:ram::aws:permission/AWSRAMDefaultPermissionCertificateAuthority"]
}

resource "aws_ram_resource_association" "ca" {
  count              = length(var.share_with) > 0 ? 1 : 0
  resource_arn       = aws_acmpca_certificate_authority.mesh.arn
  resource_share_arn = aws_ram_resource_share.ca[0].arn
}

resource "aws_ram_principal_association" "ca" {
  count              = length(var.share_with)
  principal          = var.share_with[count.index]
  resource_share_arn = aws_ram_resource_share.ca[0].arn
}

# The key under which certificates and their keys rest in Secrets Manager.
resource "aws_kms_key" "secrets" {
  description         = "Certificates and keys of ${var.trust_domain}"
  enable_key_rotation = true
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/${var.name}-secrets"
  target_key_id = aws_kms_key.secrets.key_id
}
