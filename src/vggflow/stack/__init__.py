"""The servers of a team as plain processes on one machine: `vggflow up`."""
