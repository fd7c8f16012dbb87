variable "name" {
  description = "Begins the name of everything that is made"
  type        = string
  default     = "patchbay"
}

variable "trust_domain" {
  description = "The trust domain of every identity of the mesh, such as prod.example"
  type        = string
}

variable "namespaces" {
  description = "The Cloud Map namespaces to serve; one that is missing is made"
  type        = list(string)
}

variable "services" {
  description = "ECS services of the mesh by name: each gets a role, which is its identity. A service that offers nothing only calls others"
  type = map(object({
    namespace       = string
    discovery_names = list(string)
  }))
  default = {}
}

variable "instances" {
  description = "Workloads on EC2 instances by name: their role, of an instance profile of the same name, is their identity"
  type = map(object({
    namespace       = string
    discovery_names = list(string)
    role_arn        = string
  }))
  default = {}
}

variable "service_kms_keys" {
  description = "ARNs of the KMS keys that services name as tls.kmsKey: the control plane may use these too"
  type        = list(string)
  default     = []
}

variable "image" {
  description = "The image of the control plane, target patchbay of deploy/docker"
  type        = string
}

variable "replicas" {
  description = "Control planes"
  type        = number
  default     = 2
}

variable "vpc_id" {
  description = "The VPC of the control plane and of the mesh"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, one in each availability zone, with a way to AWS's APIs"
  type        = list(string)
}

variable "client_cidrs" {
  description = "Where the tasks of the mesh are"
  type        = list(string)
}

variable "cluster_arn" {
  description = "The ECS cluster of the control plane and of the services"
  type        = string
}

variable "share_with" {
  description = "Accounts, or ARNs of organizational units, that may use the CA too"
  type        = list(string)
  default     = []
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that are told of alarms"
  type        = list(string)
  default     = []
}
