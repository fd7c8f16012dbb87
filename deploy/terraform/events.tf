# What becomes of tasks, as hints of what to look at. Each replica has a queue of
# its own.
resource "aws_sqs_queue" "events" {
  count                      = var.replicas
  name                       = "${var.name}-events-${count.index}"
  message_retention_seconds  = 300
  visibility_timeout_seconds = 30
  sqs_managed_sse_enabled    = true
}

resource "aws_cloudwatch_event_rule" "tasks" {
  name        = "${var.name}-tasks"
  description = "Tasks of the mesh's cluster start and stop"

  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail        = { clusterArn = [var.cluster_arn] }
  })
}

resource "aws_cloudwatch_event_target" "events" {
  count     = var.replicas
  rule      = aws_cloudwatch_event_rule.tasks.name
  target_id = "replica-${count.index}"
  arn       = aws_sqs_queue.events[count.index].arn
}

data "aws_iam_policy_document" "events" {
  count = var.replicas

  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events[count.index].arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.tasks.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  count     = var.replicas
  queue_url = aws_sqs_queue.events[count.index].url
  policy    = data.aws_iam_policy_document.events[count.index].json
}
