# The snippet of the API's documentation; API_KEY comes from the environment, REQUESTS_CA_BUNDLE names the CA.
import json
import os

import requests

API_KEY = os.environ["API_KEY"]
BASE = os.environ["BASE_URL"] + "/v1"

response = requests.get(BASE + "/tasks", headers={"Authorization": f"Bearer {API_KEY}"})
if response.status_code == 401:
    print(json.dumps(response.json()))
else:
    response.raise_for_status()
    print(json.dumps(response.json()))
