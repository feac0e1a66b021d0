package sspi

// TicketSwitch in the environment names a service that the tickets at hand are
// good for. TestInWine sets it.
const TicketSwitch = "KERBPASS_TEST_SSPI_SPN"
