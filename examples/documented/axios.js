// The snippet of the API's documentation; API_KEY comes from the environment, NODE_EXTRA_CA_CERTS names the CA.
const axios = require('axios');

const API_KEY = process.env.API_KEY;
const BASE = process.env.BASE_URL + '/v1';

async function getTasks() {
  try {
    const response = await axios.get(BASE + '/tasks', { headers: { Authorization: `Bearer ${API_KEY}` } });
    console.log(JSON.stringify(response.data));
  } catch (error) {
    console.log(JSON.stringify(error.response.data));
  }
}

getTasks();
