package join

// InTurn is how [Addresses.Dial] connects.
var InTurn = inTurn
