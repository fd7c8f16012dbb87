package mesh

// Profile is how much of the mesh a task sees.
type Profile string

const (
	// Live: names appear while the task runs, and policies hold.
	Live Profile = "live"
	// Strict is what Service Connect does: the names that a task knows are
	// those of its start, and nothing can be set but what ECS's block has.
	Strict Profile = "strict"
)
