"""The patient's page: sign-in by OpenID Connect, shaped like NHS login, and the reports that its patient may see."""
