"""The gradient of a map that is read several times, collected from its readers and written once."""
