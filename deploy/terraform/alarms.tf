# Nothing stops while these ring: Envoys keep what they have, and certificates
# live for days. Prometheus sees more: deploy/prometheus.
resource "aws_cloudwatch_metric_alarm" "targets" {
  for_each            = local.ports
  alarm_name          = "${var.name}-${each.key}-no-control-plane"
  alarm_description   = "No control plane takes connections"
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics

  dimensions = {
    LoadBalancer = aws_lb.control_plane.arn_suffix
    TargetGroup  = aws_lb_target_group.control_plane[each.key].arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "events" {
  count               = var.replicas
  alarm_name          = "${var.name}-events-${count.index}-unread"
  alarm_description   = "A replica does not read its events: changes are found by polling"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 120
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics

  dimensions = {
    QueueName = aws_sqs_queue.events[count.index].name
  }
}

# Refused calls of AWS, certificates that are not renewed and the like.
resource "aws_cloudwatch_log_metric_filter" "errors" {
  name           = "${var.name}-errors"
  log_group_name = aws_cloudwatch_log_group.control_plane.name
  pattern        = "{ $.level = \"ERROR\" }"

  metric_transformation {
    name      = "Errors"
    namespace = var.name
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-errors"
  alarm_description   = "The control plane logs errors: they say what to do"
  namespace           = var.name
  metric_name         = "Errors"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}
