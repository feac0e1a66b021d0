package tickettest

// CheckLacks is what TestBackend does first.
var CheckLacks = checkLacks
