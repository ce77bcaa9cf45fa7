# The snippet of the API's documentation; API_KEY comes from the environment, CURL_CA_BUNDLE names the CA.
curl -s "$BASE_URL/v1/tasks" \
  -H "Authorization: Bearer $API_KEY"
